"""Write the products of a trend: tables, charts, GeoPackage, pictures, report."""
