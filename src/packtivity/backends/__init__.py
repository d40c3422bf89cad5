"""Where tasks run: here and now, in this process for the price of a proxy, or wherever a plug-in takes them."""
