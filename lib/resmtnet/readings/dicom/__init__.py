"""DICOM SEG and SR of nodules: what the server stores in a PACS, and what it reads back from it."""
