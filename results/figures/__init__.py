"""Which charts the records allow, as plain values, and drawing them with matplotlib and plotly."""
