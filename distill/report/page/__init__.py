"""One page of HTML that needs nothing else: styles, script and drawings are inside it."""
