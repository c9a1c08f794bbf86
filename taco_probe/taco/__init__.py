"""TaCo: an embedding of visual tasks, learnt from (input, target) pairs of images."""
