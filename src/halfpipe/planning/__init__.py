"""Which files a target needs, from RetDefs and what decoders have vouched for, and what an operator holds."""
