"""What training, evidence and serving all stand on: batches, device and precision, attention, heads, inference."""
