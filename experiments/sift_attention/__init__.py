"""SiftAttention: does the power law of attention scores hold?"""
