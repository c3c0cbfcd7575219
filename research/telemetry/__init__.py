"""What a run reports: metrics, traces, timings, memory.

Import the module that is meant (`from research.telemetry import metrics`); the
package itself imports nothing.
"""
