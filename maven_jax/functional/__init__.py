"""Arrays in, arrays out: losses, targets, estimates, exploration, loops."""
