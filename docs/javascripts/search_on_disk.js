// Search on pages that are opened from a disk, where browsers allow no workers: the worker's script
// runs in a hidden frame, and messages are passed to its `onmessage`.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.onmessage = this.onerror = this.onmessageerror = null
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.documentElement.append(this.frame)
      const inside = this.frame.contentWindow
      inside.postMessage = (data) => this.send(this, data)
      this.ready = new Promise((resolve) => {
        const script = inside.document.createElement("script")
        script.src = new URL(url, location)
        script.onload = () => resolve(inside)
        script.onerror = () => this.onerror?.(new Event("error"))
        inside.document.head.append(script)
      })
    }
    send(receiver, data) {
      const copy = structuredClone(data) // either side may change what it sent or received
      setTimeout(() => receiver.onmessage?.({ data: copy }))
    }
    postMessage(data) {
      this.ready.then((inside) => this.send(inside, data))
    }
    terminate() {
      this.frame.remove()
    }
  }
}
