"""The settings of a checkpoint found on one's own pictures, without labels: by which of them its answers stay."""
