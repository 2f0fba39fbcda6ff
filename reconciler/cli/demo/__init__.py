"""`demo`: a desired-state repository, its people, its targets and the daemon in a private temporary folder; eight scenes played on them.

Each scene types what a person would type and looks at what the daemon then shows. Nothing here decides, signs or writes in the daemon's stead.
"""
