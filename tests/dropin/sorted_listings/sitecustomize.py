"""Sort what directories hold: the original publishes matches in the order of the file system, which is anybody's guess."""

import os

_listdir = os.listdir
os.listdir = lambda path=".": sorted(_listdir(path))
