"""What depth by networks needs around the network: stretches joined, scale made steady, depth carried between frames."""
