"""What is known of each serving engine: pure functions from arguments to command lines and back."""
