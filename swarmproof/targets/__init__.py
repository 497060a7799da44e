"""Systems under test: started as processes, waited for until they answer, watched, stopped, and never left behind."""
