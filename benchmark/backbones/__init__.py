"""timm's backbones as encoders, with a stem that fits small images and weights to start from; knows no cell."""
