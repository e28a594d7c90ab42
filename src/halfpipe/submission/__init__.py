"""Submission of hand-offs to Level-1: once each, and recorded before and after."""
