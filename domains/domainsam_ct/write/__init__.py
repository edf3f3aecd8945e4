"""Write masks, tables, previews, reports and DICOM objects."""
