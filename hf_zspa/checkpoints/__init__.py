"""All about a checkpoint's folder: what may be in it, what it will do, how it is made."""
