"""The two acceptance scripts: twenty good clients against an envelope server, and an election survived."""
