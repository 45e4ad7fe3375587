"""Pictures of graphs and of training: SVG, HTML and DOT, the same bytes everywhere."""
