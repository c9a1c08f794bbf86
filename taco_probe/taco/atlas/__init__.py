"""The atlas: one offline page, and figures, of what the map of visual tasks shows."""
