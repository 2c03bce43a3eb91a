"""timm's backbones as encoders, with a stem that fits small images and weights to start from; knows no cell."""

SMALL = 64  # pixels of a view up to which its stem should keep the resolution
SMALL_PATCH = 4  # pixels of a side of the patches that `stem=small` gives a vision transformer
