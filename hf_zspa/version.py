"""The version, and what it was tested with, in one place: the documentation, the cards and the tests go by it."""

__version__ = "0.2.0.dev0"
TESTED_TRANSFORMERS = ("4.57.6", "5.0.0", "5.10.4", "5.16.1", "5.19.0", "5.23.0", "5.24.0")  # before a release
TESTED_AT_EVERY_CHANGE = ("4.57.6", "5.16.1", "5.19.0", "5.24.0")
