"""Starting and serving the MONAI Label app."""
