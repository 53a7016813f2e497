"""What made the small models and studies them; it is not in the wheel."""
