"""report.html: sections, plots and the worst faces of an evaluation."""
