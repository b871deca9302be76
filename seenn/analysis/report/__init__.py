"""What people see of an evaluation and of a comparison: tables, plots and a report folder."""
