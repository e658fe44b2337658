"""The equations in plain float64 Python, written from the papers, which the package is checked against."""
