"""People, and the groups in which they spend nights and days."""
