"""Published data sets of others, and a lab's own barriers, turned into the files that training reads."""
