"""What a run leaves: its folder, its manifest, and its pictures."""
