() => {
  // A click on a part of the timeline, a word, or a button of a table moves the video.
  const player = () => document.querySelector("#clip video");
  document.addEventListener("click", (event) => {
    const place = event.target.closest("[data-time]");
    const video = player();
    if (!place || !video) return;
    video.currentTime = Number(place.dataset.time);
    if (place.tagName !== "BUTTON") video.scrollIntoView({ block: "nearest" });
  });
  // A line in the timeline shows where the video is. Events of media do not bubble, but they can be captured.
  document.addEventListener(
    "timeupdate",
    (event) => {
      const plot = document.querySelector(".sd-plot[data-seconds]");
      const line = plot && plot.querySelector(".sd-playhead");
      if (!line || event.target !== player()) return;
      line.hidden = false;
      line.style.left = `${Math.min(100, (100 * event.target.currentTime) / Number(plot.dataset.seconds))}%`;
    },
    true,
  );
  // On a phone the results are far below the button.
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#analyse")) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const place = document.querySelector("#summary").getBoundingClientRect();
    if (place.top > innerHeight - 100 || place.bottom < 0)
      scrollBy({ top: place.top - 80, behavior: calm ? "auto" : "smooth" });
  });
  // Gradio names its upload buttons otherwise than they read, which confuses control by voice.
  const rename = () =>
    document.querySelectorAll("button.upload-container[aria-label]").forEach((button) => button.removeAttribute("aria-label"));
  new MutationObserver(rename).observe(document.body, { childList: true, subtree: true });
  rename();
};
