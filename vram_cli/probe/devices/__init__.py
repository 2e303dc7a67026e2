"""Devices: who counts the memory, and what enforces the limit."""
