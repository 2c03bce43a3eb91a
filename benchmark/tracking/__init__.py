"""What a cell tells trackers (W&B, TensorBoard, Trackio); nothing here can fail a cell."""
