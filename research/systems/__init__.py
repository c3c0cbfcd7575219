"""What is only one paper's, a package each; they never import one another."""
