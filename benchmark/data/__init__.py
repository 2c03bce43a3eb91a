"""Any dataset as uint8 arrays, labels, class names and splits; no augmentation and no model."""
