"""`swarmproof new`: files to begin with."""
