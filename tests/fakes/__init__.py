"""Stand-ins for everything a room asks for, one file per thing. They record what was done to them and do what a script
says."""
