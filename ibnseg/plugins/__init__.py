"""Life outside MMSegmentation: MMDetection, MMPretrain. Not imported by `import ibnseg`."""
