"""One offline HTML page about a run or several, made from their folders alone."""
