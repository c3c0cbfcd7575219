"""EpiCast (arXiv 2506.07842): does fear of a disease give it several waves?"""
