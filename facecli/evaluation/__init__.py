"""Error rates of a system on labelled data, with intervals, tables, plots and reports."""
