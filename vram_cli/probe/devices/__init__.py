"""Devices: how their memory is measured, and how a limit is enforced."""
