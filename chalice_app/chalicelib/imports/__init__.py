"""One import job's life: started, watched, its results read, or its failure recorded."""
