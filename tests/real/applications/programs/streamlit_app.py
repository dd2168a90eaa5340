"""A page of Streamlit with a button: each click runs this file again and counts in the session."""

import streamlit as st

if st.button("Double"):
    st.session_state.number = st.session_state.get("number", 21) * 2
st.text(f"number {st.session_state.get('number', 21)}")
