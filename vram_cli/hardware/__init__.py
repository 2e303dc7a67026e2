"""What is known about GPUs: the catalogue, calibrations measured on them, and how accurate predictions were."""
