"""The zoo: planted bugs, each with the scenario that shows it and the verdict that it must get."""
