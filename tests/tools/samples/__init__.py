"""Tools as their authors write them, in every way that there is."""
