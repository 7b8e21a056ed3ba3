"""What XLA says of its programs: the optimised program as text, and the memory it takes."""
