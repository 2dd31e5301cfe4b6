"""The embedded demo: a synthetic world of albums, its tiny language model and a stand-in teacher."""
