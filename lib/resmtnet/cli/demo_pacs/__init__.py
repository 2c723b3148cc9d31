"""`make demo-pacs`: a PACS, the server and OHIF on this machine, with a study in it."""
