"""The catalogue of GPUs, and calibrations of predictions for them."""
